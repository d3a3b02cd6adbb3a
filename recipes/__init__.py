"""Recipes that come with cpt. `cpt init --list` names them; `cpt init --template NAME` copies one."""
