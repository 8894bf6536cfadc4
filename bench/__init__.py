"""What evtsim costs. Not part of the package."""
