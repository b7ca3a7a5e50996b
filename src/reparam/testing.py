"""The bar that our own distributions and paths meet, for users' code too."""
