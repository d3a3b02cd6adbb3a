"""Models as lm-eval sees them: packed requests, greedy generation, and every answer kept."""
