"""Networks of the Hugging Face Hub, by names such as 'hf:timm/resnetrs50.tf_in1k'."""
