"""Plots as inline SVG that follows the theme of the page. matplotlib is loaded when one is drawn."""
