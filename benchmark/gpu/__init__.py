"""What only a GPU can show: is it right there, and how fast?"""
