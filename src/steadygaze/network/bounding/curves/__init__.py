"""What is known of smooth functions of one number over intervals."""
