"""Dashboards, recording rules and alerts, generated from the same names that the processes expose."""
