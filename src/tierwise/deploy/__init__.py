"""Renders the container and Kubernetes trees of this project for one model and its options into a folder."""
