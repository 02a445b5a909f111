"""`plimsoll recommend`, `memory` and `predict`: the recommender on the command line."""
