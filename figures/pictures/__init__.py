"""Pictures of saved results, one file per kind."""
