"""Lets the tests of the packages below use the helpers that lie here."""
