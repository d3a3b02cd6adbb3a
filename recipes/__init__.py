"""Recipes that come with cpt. `cpt presets` names them; `cpt init --template NAME` copies one."""
