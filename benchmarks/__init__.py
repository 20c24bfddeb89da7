"""How fast the engines are, as ratios."""
