"""Images: decoding any source to RGB, the transform to tensors, augmentation for training."""
