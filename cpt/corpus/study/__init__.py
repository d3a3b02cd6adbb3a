"""Make study documents of a domain: mine facts, ask about them, and probe what was learnt."""
