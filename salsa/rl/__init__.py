"""Reinforcement learning from a reward model: rollouts, rewards, advantages, PPO and its reference."""
