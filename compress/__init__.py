"""Techniques, recipes, formats and the verification of what they make."""
