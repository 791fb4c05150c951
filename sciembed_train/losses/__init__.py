"""Losses and similarities: functions of tensors."""
