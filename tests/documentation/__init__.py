"""The documentation as its readers use it: its commands and its code, in the order of the page."""
