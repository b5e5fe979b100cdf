"""Trained prompts in use: classify images, make a folder of prompts to share."""
