"""Pictures of any kind to digits."""
