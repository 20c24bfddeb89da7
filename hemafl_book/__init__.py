"""The book's own machinery: papers, explorers, what notebooks show, the build and the command."""
