"""Building blocks of self-contained HTML reports."""
