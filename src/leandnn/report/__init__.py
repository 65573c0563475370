"""What is shown to people: figures, tables, pages, notebooks, the site."""
