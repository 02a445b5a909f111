"""Online correction: what an engine reports, held against what was predicted, corrects the next prediction."""
