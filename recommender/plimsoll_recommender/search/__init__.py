"""The search for the cheapest fleet that meets the objectives, and the reasons for it."""
