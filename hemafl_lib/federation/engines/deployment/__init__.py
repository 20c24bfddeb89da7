"""The same app over a real SuperLink and SuperNodes, each a program of its own."""
