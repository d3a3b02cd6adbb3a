"""Bad inputs and kills in quantity."""
