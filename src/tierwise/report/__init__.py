"""What a trace says: statistics for each tier, tables for the terminal, a page for the browser, a picture."""
