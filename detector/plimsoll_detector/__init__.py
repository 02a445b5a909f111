"""Plimsoll: the detector process that turns Prometheus data into diagnoses and scaling decisions."""
