"""What somebody may try on a caching proxy, each with what this one must do and the tests that show it (`table.py`)."""
