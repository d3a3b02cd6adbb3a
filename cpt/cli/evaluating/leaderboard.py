def leaderboard() -> None:
    """stub"""
