"""Write study texts with a model: prompts, answers, filters and costs."""
