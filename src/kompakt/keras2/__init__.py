"""Models that Keras 2 saved as ``.h5``: their configs in the form of Keras 3, their weights by name.

What is merely spelled otherwise is translated. What has to be left out or replaced is a mend, and told; where that
would change what the model computes it is an error.
"""
