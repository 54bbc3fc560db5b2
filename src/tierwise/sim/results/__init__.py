"""What a run, a comparison or a sweep shows to people: in the terminal and as pages, in the same words."""
