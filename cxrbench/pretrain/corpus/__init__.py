"""What is learnt from: CheXpert, MIMIC-CXR-JPG and PadChest as one table of images, labels and sentences."""
