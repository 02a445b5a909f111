"""What measured models teach about an unmeasured one: residuals of physics, their spread, and what to choose."""
