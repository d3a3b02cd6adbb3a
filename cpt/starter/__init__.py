"""Write a first recipe that fits a text, a model, a machine and a time, with the reason of every choice."""
