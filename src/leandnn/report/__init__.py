"""What is shown to people: claims, statistics, figures, notebooks, the summary."""
