"""Layers floor: functions of a batch of images, each with its derivative."""
