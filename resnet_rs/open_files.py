"""How many files this process may hold open."""

import resource


def allow_open_files(count: int) -> None:
    """Lets at least `count` files be open at once, as far as the system allows; often it is 1,024.

    Every file of an array_record set stays open; ImageNet has 1,024 for training alone.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
