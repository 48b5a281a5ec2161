"""From images to probabilities, and what follows from them: metrics, mistakes, ensembles."""
