"""Model -> Model graph edits, one a file. Each returns a new functional model and leaves its input alone."""
