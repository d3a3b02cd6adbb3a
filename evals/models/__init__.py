"""Models that answer lm-eval's requests: packed or through a library, with every answer kept."""
