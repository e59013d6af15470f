"""The names of the TensorFlow Model Optimization Toolkit (tfmot), on Keras 3."""
