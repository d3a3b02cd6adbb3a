"""Compare initialisations of a new vocabulary by a short training of each, so that figures decide."""
