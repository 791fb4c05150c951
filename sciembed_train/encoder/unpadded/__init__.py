"""The unpadded forward of BERT-family backbones."""
