"""Recipes, one TOML file for each reproducible result."""
