"""Behaviour cloning of a TinyVLA ensemble from demonstrations, from nothing.

``demonstrations`` are what is learned from; ``batches`` say which frames of them a step and a member see,
``inputs`` what the model is given of a frame; ``trainer`` holds the losses and the run, ``validation`` the
errors on frames that were not trained on.
"""
