"""Where every GiB of a GPU goes."""
