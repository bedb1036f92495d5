"""What is asked: a case in words, images, and the problem in numbers, checked once."""
