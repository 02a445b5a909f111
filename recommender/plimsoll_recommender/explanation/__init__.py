"""An answer in the words and numbers that people check it by: what binds, the arithmetic, what would change it."""
