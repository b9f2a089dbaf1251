"""Weights from elsewhere: reading their files, finding a network in them, and starting a training from them."""
