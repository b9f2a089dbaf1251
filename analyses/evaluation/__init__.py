"""How well networks recognise images: accuracy, recall, calibration, tests."""
